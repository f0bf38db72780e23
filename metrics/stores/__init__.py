"""Where rows are kept, behind one interface."""
