"""How long data is kept: the rules, the limits in force, changes, lists."""
