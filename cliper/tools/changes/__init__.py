"""What has changed since results were made, and what is stale because of it."""
