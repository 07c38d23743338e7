"""Pronunciation: symbol tables, rule G2P and the lexicon transducer."""
