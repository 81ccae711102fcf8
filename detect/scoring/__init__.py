"""What a token's word is worth: selection of pairs, scores, and tables made for an alternative."""
