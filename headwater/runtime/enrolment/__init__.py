"""A node's own part of enrolment: its certificate, how it gets and renews it, and whom it lets order."""
