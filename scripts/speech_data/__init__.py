"""Speech of known phoneme times, on which the speech network is trained and measured."""
