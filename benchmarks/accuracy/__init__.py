"""What Hilum gets right, against reference masks, labels and other software."""
