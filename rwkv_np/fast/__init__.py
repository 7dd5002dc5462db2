"""Code arranged for speed outside the operators. Each function names what it must equal."""
