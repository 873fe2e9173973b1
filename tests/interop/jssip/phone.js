// JsSIP without a browser: a phone that is told by JSON lines what to do, and tells by JSON lines what has happened.
//
// Signalling is JsSIP's own, over a real WebSocket (`ws`). Its media is not a browser's: instead of WebRTC `PlainConnection`
// says plain RTP in its descriptions, sends silence to where the far end's lead, and counts what it hears. With `webrtc` it offers what a
// browser would.
'use strict';

const dgram = require('node:dgram');
const readline = require('node:readline');
const WS = require('ws');

const WEBRTC =
  'm=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n' +
  `a=fingerprint:sha-256 ${Array(32).fill('AB').join(':')}\r\na=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n`;

let offersWebrtc = false;

function tell(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

class PlainConnection {
  constructor() {
    this.iceGatheringState = 'complete';
    this.iceConnectionState = 'new';
    this.signalingState = 'stable';
    this.heard = 0;
    this.socket = dgram.createSocket('udp4');
    this.bound = new Promise((resolve) => this.socket.bind(0, '127.0.0.1', resolve));
    this.socket.on('message', () => {
      this.heard += 1;
      if (this.heard === 10) tell('heard');
    });
  }

  addEventListener() {}

  removeEventListener() {}

  async describe(type) {
    await this.bound;
    const { port } = this.socket.address();
    const plain = `m=audio ${port} RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n`;
    return { type, sdp: `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n${offersWebrtc ? WEBRTC : plain}` };
  }

  createOffer() {
    return this.describe('offer');
  }

  createAnswer() {
    return this.describe('answer');
  }

  async setLocalDescription(description) {
    this.localDescription = description;
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
    const host = /^c=IN IP4 (\S+)/m.exec(description.sdp)[1];
    const port = Number(/^m=audio (\d+)/m.exec(description.sdp)[1]);
    clearInterval(this.speaking);
    let sequence = 0;
    this.speaking = setInterval(() => {
      const packet = Buffer.alloc(172, 0xff);
      packet.writeUInt16BE(0x8000, 0);
      packet.writeUInt16BE(sequence & 0xffff, 2);
      packet.writeUInt32BE(sequence * 160, 4);
      packet.writeUInt32BE(4711, 8);
      sequence += 1;
      this.socket.send(packet, port, host);
    }, 20);
  }

  close() {
    clearInterval(this.speaking);
    this.socket.close();
    this.signalingState = 'closed';
  }
}

global.window = global;
global.RTCPeerConnection = PlainConnection;
global.RTCSessionDescription = class {
  constructor(description) {
    Object.assign(this, description);
  }
};
global.WebSocket = class extends WS {
  constructor(url, protocols) {
    super(url, protocols, { origin: process.env.ORIGIN });
  }
};

const JsSIP = require('jssip');

const [urls, uri, password] = process.argv.slice(2);
const phone = new JsSIP.UA({
  sockets: urls.split(',').map((url, at) => ({ socket: new JsSIP.WebSocketInterface(url), weight: 100 - at })),
  connection_recovery_min_interval: 1,
  uri,
  password,
  register: false,
  session_timers: false,
});
const options = { mediaConstraints: { audio: false, video: false } };
let session = null;

function watch(made) {
  session = made;
  session.on('confirmed', () => tell('confirmed'));
  session.on('ended', (data) => tell('ended', { by: data.originator, cause: data.cause }));
  session.on('failed', (data) => {
    const message = data.message || {};
    const warning = message.getHeader ? message.getHeader('Warning') : undefined;
    tell('failed', { by: data.originator, cause: data.cause, status: message.status_code, warning });
  });
}

phone.on('connected', () => tell('connected'));
phone.on('disconnected', (data) => tell('disconnected', { code: data.code }));
phone.on('registered', () => tell('registered'));
phone.on('unregistered', () => tell('unregistered'));
phone.on('registrationFailed', (data) => tell('registration_failed', { cause: data.cause }));
phone.on('newRTCSession', (data) => {
  if (data.originator !== 'remote') return;
  watch(data.session);
  tell('called', { contact: phone.contact.uri.toString() });
  data.session.answer(options);
});

const commands = {
  register: () => phone.register(),
  unregister: () => phone.unregister(),
  call: ({ to, webrtc }) => {
    offersWebrtc = Boolean(webrtc);
    phone.call(to, { ...options, eventHandlers: {} });
  },
  hang_up: () => session.terminate(),
};

phone.on('newRTCSession', (data) => {
  if (data.originator === 'local') watch(data.session);
});
readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { command, ...more } = JSON.parse(line);
    commands[command](more);
  })
  .on('close', () => process.exit(0));
phone.start();
