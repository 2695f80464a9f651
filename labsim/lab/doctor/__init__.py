"""What this host can carry: facts are looked up at one edge (`look.py`), all judgement is functions of them."""
