// The only door to the X.509 library, which wants its metadata polyfill first.
import 'reflect-metadata'

export * from '@peculiar/x509'
