# perl under load: regular expressions, hashes, sorting, short sleeps.
use strict;
use warnings;

my @words = map { "word" . ($_ * 7919 % 10007) } 1 .. 2000;

sub count_words {
    my %seen;
    for my $word (@words) {
        $seen{$1}++ if $word =~ /^word(\d+?)\d$/;
    }
    return scalar(keys %seen);
}

sub work {
    my $count = count_words();
    my @sorted = sort { $a cmp $b } @words;
    my $text = join(" ", @sorted);
    $text =~ s/word1/other/g;
    return $count + length($text);
}

while (1) {
    work() for 1 .. 3;
    select(undef, undef, undef, 0.002);
}
