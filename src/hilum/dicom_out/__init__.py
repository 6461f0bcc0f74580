"""Results as DICOM objects: segmentation, structured reports, secondary capture (PS3.3)."""
