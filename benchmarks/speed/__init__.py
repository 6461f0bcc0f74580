"""How long Hilum takes, against other software or an earlier tree."""
