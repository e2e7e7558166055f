"""What to do about it: risk scores, measures, signals, actions, and tests that say whether it helped."""
