"""The command line.  Each verb's module is imported only when the verb is used."""
