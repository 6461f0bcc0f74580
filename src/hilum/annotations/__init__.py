"""What is stated of an image or drawn on it: label states, reports, shapes, masks, acquisition."""
