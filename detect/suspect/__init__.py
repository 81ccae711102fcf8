"""What can be asked of a model under test, and the tests of inherited signal."""
