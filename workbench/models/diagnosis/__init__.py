"""Says what is wrong with a merged model of any tool, from its files and those of base and adapter."""
