"""Personal data: keys, pseudonyms, detectors, the one scan."""
