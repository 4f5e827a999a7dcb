"""The benchmarks: AlpacaEval 2, MT-Bench and IFEval, asked for or recorded, with every missing verdict counted."""
