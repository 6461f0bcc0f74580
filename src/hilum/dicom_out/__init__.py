"""Results as DICOM objects beside their source image: what a PACS keeps and a viewer shows.

Of one source image (`source`) these are written (`write`), as far as there is something to say:

    segmentation   Segmentation (PS3.3 A.51): the lungs in the source's own pixels
    findings       Structured Report of template TID 1500: a group per finding
    regions        Structured Report of template TID 1500: the outlines of the lungs
    capture        Secondary Capture (PS3.3 A.8): outlines and calls, for people
    presentation   Grayscale Softcopy Presentation State (PS3.3 A.33): outlines over the source

highdicom builds the objects, `conform` cures what dciodvfy finds in them. Each belongs to the study
and the patient of its source. Its UIDs follow from the source and the models (`uids`), and nothing
in it depends on the clock, so that the same models on the same image write the same bytes: stored
again, they replace. Only codes whose meaning was verified are written (`codes`), and no geometry
that the source does not state. Needs the extra [dicom].
"""
