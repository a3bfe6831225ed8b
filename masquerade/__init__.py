"""Masquerade's client side: the contract, its stubs and its file formats."""

from __future__ import annotations

__version__ = "0.1.0"
