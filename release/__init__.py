"""What a release of the package runs, here and in the workflow of releases: docs/packaging.md."""
