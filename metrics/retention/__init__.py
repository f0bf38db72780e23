"""How long what is kept: the rules, what is in force, changes, lists."""
