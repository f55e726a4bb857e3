"""Teachers: what people say about behaviour, and the law that each answer is drawn from."""
