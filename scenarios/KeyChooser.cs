namespace Testbed.Scenarios;

/// <summary>SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, seeded, the same on every machine.</summary>
internal struct KeyRandom(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        _state += 0x9E3779B97F4A7C15;
        return Mix(_state);
    }

    /// <summary>From 0 up to, not including, 1.</summary>
    public double NextDouble() => (Next() >> 11) * (1.0 / (1L << 53));

    /// <summary>From 0 up to, not including, <paramref name="count"/>.</summary>
    public long Below(long count) => (long)Math.BigMul(Next(), (ulong)count, out _);

    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}

/// <summary>Draws keys. Zipf after Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD 1994.</summary>
internal sealed class KeyChooser
{
    private readonly KeyDistribution _distribution;
    private readonly long _keys;
    private readonly double _skew, _zeta, _alpha, _eta;
    private KeyRandom _random;
    private long _next;

    public KeyChooser(KeyDistribution distribution, double skew, long keys, ulong seed)
    {
        (_distribution, _skew, _keys, _random) = (distribution, skew, keys, new KeyRandom(seed));
        if (distribution != KeyDistribution.Zipf)
            return;
        _zeta = Zeta(keys);
        _alpha = 1 / (1 - skew);
        _eta = (1 - Math.Pow(2.0 / keys, 1 - skew)) / (1 - (1 + Math.Pow(0.5, skew)) / _zeta);
    }

    public long Next() => _distribution switch
    {
        KeyDistribution.Zipf => (long)(KeyRandom.Mix((ulong)Rank()) % (ulong)_keys),
        KeyDistribution.Sequential => _next++ % _keys,
        _ => _random.Below(_keys),
    };

    private long Rank()
    {
        double u = _random.NextDouble();
        double uz = u * _zeta;
        if (uz < 1)
            return 0;
        if (uz < 1 + Math.Pow(0.5, _skew))
            return 1;
        return Math.Min(_keys - 1, (long)(_keys * Math.Pow(_eta * u - _eta + 1, _alpha)));
    }

    /// <summary>The first terms one by one, the rest by the midpoint integral: exact to 1e-9, and quick for any size.</summary>
    private double Zeta(long n)
    {
        long head = Math.Min(n, 10_000);
        double sum = 0;
        for (long i = 1; i <= head; i++)
            sum += Math.Pow(i, -_skew);
        double s = 1 - _skew;
        return n == head ? sum : sum + (Math.Pow(n + 0.5, s) - Math.Pow(head + 0.5, s)) / s;
    }
}
