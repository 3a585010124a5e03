using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>How much may be in flight, on ways that carry what is asked for all at once.</summary>
[TestFixture]
public sealed class FlightControlTests
{
    private static readonly TransferOptions Transfer = TransferOptions.Adaptive;

    /// <summary>Two machines in one: 128 KiB are carried in 60 us, and are here before anybody looks.</summary>
    [Test]
    public void A_way_that_empties_between_two_looks_gets_more_to_carry()
    {
        var flight = new FlightControl(Transfer);
        long floor = flight.Pages;
        Carry(flight, rounds: 200, pause: Duration.FromMicroseconds(5));
        Assert.That(flight.Pages, Is.GreaterThan(4 * floor));
        Assert.That(flight.RequestPages, Is.EqualTo(Transfer.MaxRequest >> PageNumber.Shift));
    }

    [Test]
    public void What_comes_of_a_wish_now_and_then_says_nothing_of_the_rate()
    {
        var flight = new FlightControl(Transfer);
        long floor = flight.Pages;
        Carry(flight, rounds: 200, pause: Duration.FromMilliseconds(3));
        Assert.That(flight.Pages, Is.EqualTo(floor));
    }

    /// <summary>Asks for all that is allowed, has it come in together at 2 GB/s, and asks again after a pause.</summary>
    private static void Carry(FlightControl flight, int rounds, Duration pause)
    {
        Instant now = Instant.Zero;
        for (int round = 0; round < rounds; round++)
        {
            (Instant asked, long pages) = (now, flight.Pages);
            for (long inFlight = 0; inFlight < pages; inFlight += flight.RequestPages)
                flight.OnRequested(now, inFlight);
            now += new ByteRate(2e9).TimeFor(pages << PageNumber.Shift);
            long request = flight.RequestPages;
            for (long come = 0; come < pages; come += request)
                flight.OnArrived(now, asked, Math.Min(request, pages - come), first: true, waiting: false);
            now += pause;
        }
    }
}
