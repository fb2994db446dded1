"""What tests over real sockets share: peers, the program under test, and the oracle that judges bytes."""
