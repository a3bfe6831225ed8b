"""What must be remembered beside the objects: rows of jobs, assets, identities, consents, keys, and the audit log."""
