"""Read DICOM files: study tables from folders, greyscale views from files."""

from mura_skorch.dicom.scan import holds_dicom
from mura_skorch.dicom.studies import read_dicom_studies

__all__ = ["holds_dicom", "read_dicom_studies"]
