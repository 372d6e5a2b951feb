"""Human validation: samples, blinded forms, analysis."""
