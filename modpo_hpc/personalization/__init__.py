"""Whether an answer made for this persona pleases it more than one made for another."""
