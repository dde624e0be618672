"""Preparation as a ledger: plan, run what is not done yet, record each item, write the manifests."""

from __future__ import annotations

from vondata.item import Event, Item, Kind, Rejected, RunOptions, Work, file_safe, printable

__all__ = ["Event", "Item", "Kind", "Rejected", "RunOptions", "Work", "file_safe", "printable"]
