"""Records for an MLflow server that is away, sent later."""
