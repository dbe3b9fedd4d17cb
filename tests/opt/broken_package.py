raise ImportError("undefined symbol: nothing")
