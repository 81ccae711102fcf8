"""Does the mark cost a model its skill, and is it found in code, reasoning and prose?"""
