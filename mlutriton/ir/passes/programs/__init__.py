"""What programs of a grid do, shared out anew: several as one, one on several cores, or each with other tiles."""
