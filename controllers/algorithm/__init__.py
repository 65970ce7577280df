"""The policy, the critics, and the update of both; it knows neither environments nor files."""
