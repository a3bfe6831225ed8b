"""Generated stubs of the contract; never edited by hand."""
