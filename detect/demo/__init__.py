"""The live demo: mark a real teacher, distil a real student, prove the inheritance."""
