"""Colours that every picture shares."""

# Okabe and Ito's palette, told apart with every kind of colour blindness; shapes differ as well.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE = "#CC79A7"
GREY, LINE_GREY = "#595959", "#D0D0D0"
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, "#56B4E9", "#000000")  # of one kind
