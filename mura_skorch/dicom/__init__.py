"""DICOM: files as hospitals have them go in, views and study tables come out."""

from mura_skorch.dicom.scan import holds_dicom
from mura_skorch.dicom.studies import read_dicom_studies

__all__ = ["holds_dicom", "read_dicom_studies"]
