"""The services of the mesh: an application, run from images or a checkout."""
