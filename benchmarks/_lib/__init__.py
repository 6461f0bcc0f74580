"""What the scripts share: where results are kept, sets, damaged files, runs to disturb."""
