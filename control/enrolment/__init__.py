"""Who the nodes are: control's own CA, one-time tokens, certificates that nodes renew by themselves, and what ends them."""
