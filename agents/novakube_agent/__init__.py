"""The node agent: carries out the Guests of its node."""
