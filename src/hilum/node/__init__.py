"""A node beside a hospital's archive: radiographs in, results as DICOM objects back.

    settings      what a node is started with; `settings_file` reads node.toml, `settings_rules`
                  says what cannot be meant, `cautions` what a hospital may not want
    trial         tries the connections before a node runs
    journal       one SQLite file: which film is received, read, written or sent
    inbox         takes in every object, whatever it came by, whole or not at all; owns the folders
    sources       films of an Orthanc (`orthanc`) or of a DICOMweb server (`dicomweb`), by polling
    dimse         films by C-STORE from those who may, results by C-STORE
    reader        applies the models to a film, writes its objects
    sender        stores the objects in the archive; `web_servers` names those that speak DICOMweb
    service       the threads that do all this until the node is stopped
    monitor       its health, metrics and worklist over HTTP

A film goes through the states received, read, written and sent, each recorded before the next step
begins. Whatever ends the process, the next start continues from the journal, and since the UIDs of
results follow from the film and the models (`hilum.dicom_out.uids`), what is sent twice replaces
itself: each film has its results exactly once. Needs the extra [dicom].
"""
