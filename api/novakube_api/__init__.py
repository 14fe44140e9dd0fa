"""The API server process: routes for kubectl users; the OpenStack APIs come here."""
