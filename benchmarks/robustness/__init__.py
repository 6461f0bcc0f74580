"""What Hilum does with damaged files, full disks and interruptions."""
