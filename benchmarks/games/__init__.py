"""Speed of the game loop: many small games against other loops, one large game against memory."""
