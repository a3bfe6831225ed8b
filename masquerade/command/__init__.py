"""The command's remote half: `jobs`, `identities` and `assets`, against any mesh."""
