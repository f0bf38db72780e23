"""What is between the server and a page: protocol, middleware, sockets, context."""
