"""Every policy optimiser of the library on the shop at one budget: the table of methods."""

PAPER = "Dong et al. 2023, 2304.06767 (RAFT), Wu et al. 2023, 2310.00212 (P3O) and kin"
GROUP = "language"
CLAIM = "online methods beat offline ones at equal labels; soft labels stay nearer than hard ones"
MINUTES = 60
