"""Operators' side of control: who may, what they may, the API, the log lines and the status tree."""
