"""Find radiographs among DICOM objects by their headers, with the truth on patients and studies.

    frontal     why a header is not that of a frontal chest radiograph
    film        one image: its UIDs, patient, view, moment and place
    index       all images of a source: films, contradictions, earlier films of a patient
    folder      a folder, with the DICOMDIRs in it, or a DICOMDIR
    dicomdir    the directory of a medium (PS3.10 section 8)
    server      a DICOMweb server, by QIDO-RS (PS3.18 section 10.6)

Headers that come one by one, as in a C-STORE stream, go into `index.Collector`.
"""
