"""Write DICOM files of given pixels and header fields."""

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset

SECRET = "SECRETIVE"  # in every field that identifies the patient


def write_dicom(path, pixels, *, syntax=pydicom.uid.ExplicitVRLittleEndian, **fields):
    """Write a radiograph; a field that is None is left out."""
    pixels = np.asarray(pixels)
    found = pydicom.Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation
    )
    uid = pydicom.uid.generate_uid()
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = uid
    settings = {
        **{"PatientName": f"{SECRET}^NAME", "PatientBirthDate": "19111111", "PatientID": "p1"},
        **{"PatientAddress": f"{SECRET} street", "InstitutionName": f"{SECRET} clinic"},
        **{"ReferringPhysicianName": f"{SECRET}^DOCTOR", "AccessionNumber": SECRET},
        **{"StudyInstanceUID": "1.2.3", "Modality": "DX", "BodyPartExamined": "HAND"},
        **{"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"},
        **{"Rows": pixels.shape[0], "Columns": pixels.shape[1]},
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }
    if syntax == pydicom.uid.ExplicitVRBigEndian:
        settings["PixelData"] = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    settings |= {"HighBit": fields.get("BitsStored", settings["BitsStored"]) - 1, **fields}
    with pydicom.config.disable_value_validation():  # tests may write what they should not
        for name, value in settings.items():
            if value is not None:
                setattr(found, name, value)
    if "PixelData" in found:
        found["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax.is_compressed and not syntax.is_deflated:
        found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        found.compress(syntax)
    found.save_as(path, enforce_file_format=True)
    return path
